"""A trained model as MLflow's pyfunc: plain files that this module loads, nothing pickled.

`mlflow.pyfunc.load_model("runs:/<run>/model").predict(["the food was good ."])` gives a row a sentence, or an image:
the words that the vocabulary lacks, mu, sigma and features.
"""

from typing import Any

import numpy as np
import pandas as pd

from duvae.inference.model import TrainedModel, load


class Encoder:
    """What MLflow calls `predict` of.

    Args:
        trained: The model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row an example, as `duvae.inference.model.Codes.frame` has it.

        Args:
            model_input: Sentences as a list, a series or the first column of a table; or shares of ink in [0, 1], with
                shape (images, size, size).
            params: None are known.

        Warns:
            UnknownWords: With their number, where there are any.
        """
        if isinstance(model_input, pd.DataFrame):
            model_input = model_input.iloc[:, 0]
        if self.trained.size is None:
            return self.trained.encode(list(model_input)).frame()

        return self.trained.encode(np.asarray(model_input)).frame()


def _load_pyfunc(path: str) -> Encoder:
    """What MLflow calls, with the folder of the files."""
    return Encoder(load(path))
