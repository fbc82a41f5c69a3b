"""Sound to spikes: basilar membrane, inner hair cells, bushy cells, in the manner of the Heidelberg data sets."""

from __future__ import annotations

from ranvier.encode.cochlea.encoder import Cochlea, SpikeTrain
from ranvier.encode.cochlea.membrane import BasilarMembrane
from ranvier.encode.cochlea.nerve import BushyCell, HairCell

__all__ = ["BasilarMembrane", "BushyCell", "Cochlea", "HairCell", "SpikeTrain"]
