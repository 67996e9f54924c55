"""Files of a repository on the Hugging Face hub, all of one commit, each held to the hash that the hub lists.

The hub's own client compares sizes alone, begins a transfer anew in every process, and waits as long as it
is told, without a word. Here what has arrived is kept and hashed as it arrives, every wait is bounded and
announced, and what cannot heal ends at once, in one sentence.
"""

from pal.fetching.folder import fetch_folder
from pal.fetching.hashing import sha256_of
from pal.fetching.listing import File, Listing, listing
from pal.fetching.patience import PATIENCE, FetchError, Patience, UnreachableError
from pal.fetching.transfer import fetch

__all__ = [
    "PATIENCE",
    "FetchError",
    "File",
    "Listing",
    "Patience",
    "UnreachableError",
    "fetch",
    "fetch_folder",
    "listing",
    "sha256_of",
]
