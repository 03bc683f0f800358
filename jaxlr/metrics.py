"""How good predictions are."""

from jaxlr.model.metrics import accuracy, brier_score, calibration_error, log_loss, roc_auc

__all__ = ["accuracy", "brier_score", "calibration_error", "log_loss", "roc_auc"]
