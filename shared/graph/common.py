"""The rules that hold for any model: some before those of circuits and of sequences, some after them."""

from shared.graph.constants import CONSTANTS
from shared.graph.dead import DEAD
from shared.graph.duplicates import DUPLICATES
from shared.graph.identities import IDENTITIES, ROUND_TRIPS
from shared.graph.norms import NORMS
from shared.graph.rules import Rules

FIRST = Rules((IDENTITIES, ROUND_TRIPS, DUPLICATES, DEAD))
LAST = Rules((NORMS, CONSTANTS))
