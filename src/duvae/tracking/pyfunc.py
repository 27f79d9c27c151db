"""Writes and loads a trained model as a pyfunc, which is MLflow's general format of models.

The model is read from plain files, and no pickle is needed. For example,
`mlflow.pyfunc.load_model("runs:/<run>/model").predict(["the food was good ."])` returns a table with one row per
sentence or image. A row holds the number of unknown words, mu, sigma and features. mu and sigma are the means and the
standard deviations of q(z|x); for a flow they are those of z^0, from which the flow computes z. The features are mu;
for a flow they are mu and the latent code that the flow computes from mu.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from duvae.inference.model import TrainedModel, load


def write_mlmodel(folder: Path, size: int | None) -> None:
    """Writes the file MLmodel. With this file, MLflow can load the model's own files as a pyfunc, without a pickle.

    A pyfunc is MLflow's general format of models. The model's own files are in the same artifact folder as MLmodel.

    Args:
        folder: Folder in which the file is written.
        size: Height and width of the images in pixels; None: the model was trained on sentences.
    """
    from mlflow import pyfunc  # imported only here, since a loaded model does not need it
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    x = ColSpec(DataType.string) if size is None else TensorSpec(np.dtype(np.float32), (-1, size, size))
    model = Model(signature=ModelSignature(Schema([x])))
    pyfunc.add_to_model(model, __name__, data=".")
    with (folder / "MLmodel").open("w", encoding="utf-8") as file:
        yaml.safe_dump(model.to_dict(), file, sort_keys=False)


class Encoder:
    """The object that MLflow loads for a trained model. MLflow calls its method `predict`.

    Args:
        trained: The trained model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Encodes sentences or images.

        Args:
            model_input: Sentences, as a list, a series or the first column of a table; or images, shape (images, size,
                size). The value of a pixel is its share of ink, from 0 to 1.
            params: Unused. MLflow passes this argument to every pyfunc.

        Returns:
            One row per example, with the columns of `duvae.inference.model.Codes.frame`.

        Warns:
            UnknownWords: If the sentences contain words that the vocabulary lacks.
        """
        if isinstance(model_input, pd.DataFrame):
            model_input = model_input.iloc[:, 0]
        if self.trained.size is None:
            return self.trained.encode(list(model_input)).frame()

        return self.trained.encode(np.asarray(model_input)).frame()


def _load_pyfunc(path: str) -> Encoder:
    """Loads the model. MLflow calls this function.

    Args:
        path: Folder with the files of the model.
    """
    return Encoder(load(path))
