"""Decoding for many at a time: versions on shared weights, running batches, one reply on its way."""
