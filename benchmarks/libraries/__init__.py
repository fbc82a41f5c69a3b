"""The same neuron in several libraries: alone, behind a linear layer, in a convolution block, in a whole net."""
