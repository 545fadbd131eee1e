"""Annotated footage: labels, clips, frame cache, augmentation and batches."""
