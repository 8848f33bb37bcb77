from .functional import Scores, confusion_matrix, scores_of
from .metric import IoUMetric
from .table import score_table

__all__ = ['IoUMetric', 'Scores', 'confusion_matrix', 'score_table', 'scores_of']
