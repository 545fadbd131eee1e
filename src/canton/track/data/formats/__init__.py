"""Label readers, one file a format: CSV, MOT, COCO."""
