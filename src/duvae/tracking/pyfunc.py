"""Loads a trained model as a pyfunc, MLflow's general format of models, from plain files and without a pickle.

`mlflow.pyfunc.load_model("runs:/<run>/model").predict(["the food was good ."])` returns one row per sentence or image:
the number of unknown words, mu, sigma and features. mu and sigma are the parameters of q(z|x). The features are mu, and
for a flow also the code to which the flow maps mu.
"""

from typing import Any

import numpy as np
import pandas as pd

from duvae.inference.model import TrainedModel, load


class Encoder:
    """The object whose `predict` MLflow calls.

    Args:
        trained: The trained model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Encodes sentences or images.

        Args:
            model_input: Sentences as a list, a series or the first column of a table; or images as shares of ink in
                [0, 1], shape (images, size, size).
            params: Unused; MLflow passes it.

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
    """Loads the model from the folder of its files. MLflow calls this function."""
    return Encoder(load(path))
