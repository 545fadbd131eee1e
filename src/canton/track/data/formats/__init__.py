"""Label readers, one file per format: CSV, MOT, COCO."""
