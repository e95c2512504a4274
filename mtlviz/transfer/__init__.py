"""When tasks help each other: task covariances, and small problems of transfer that are solved exactly; no torch."""

from mtlviz.transfer.covariance import TaskCovariance, covariance_cosine, covariance_score, covariances

__all__ = ["TaskCovariance", "covariance_cosine", "covariance_score", "covariances"]
