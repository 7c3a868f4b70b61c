"""Frequency regularisation for adversarial training: the library under the book.

Images are float32 NCHW in [0, 1]; eps and step sizes are in the same units (8/255); labels are
int64 class indices; models return logits and normalise inside themselves, if at all.
"""
