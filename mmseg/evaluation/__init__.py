from .agreement import AgreementMetric
from .functional import Scores, confusion_matrix, scores_of
from .metric import IoUMetric
from .retrieval import RetrievalMetric
from .table import score_table

__all__ = [
    'AgreementMetric',
    'IoUMetric',
    'RetrievalMetric',
    'Scores',
    'confusion_matrix',
    'score_table',
    'scores_of',
]
