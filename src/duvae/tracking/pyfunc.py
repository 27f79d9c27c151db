"""Loads a trained model as a pyfunc, which is MLflow's general format of models.

The model is read from plain files, and no pickle is needed. For example,
`mlflow.pyfunc.load_model("models:/yelp@du_vae").predict(["the food was good ."])` returns a table with one row per
sentence or image. A row holds the number of unknown words, mu, sigma and features. mu and sigma are the means and the
standard deviations of q(z|x); for a flow they are those of z^0, from which the flow computes z. The features are mu;
for a flow they are mu and the latent code that the flow computes from mu.
"""

from typing import Any

import numpy as np
import pandas as pd

from duvae.inference.model import TrainedModel, load


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
