"""Metrics: pure functions of a confusion matrix, and the classes that configs name."""

from .functional import Scores, confusion_matrix, score_table, scores_of
from .metric import AgreementMetric, IoUMetric, RetrievalMetric

__all__ = [
    'AgreementMetric',
    'IoUMetric',
    'RetrievalMetric',
    'Scores',
    'confusion_matrix',
    'score_table',
    'scores_of',
]
