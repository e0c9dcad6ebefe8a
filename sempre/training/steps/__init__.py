"""One step of training: the rate, the parts of a batch, steps that are not finite, averaged weights."""
