"""Label formats, one file each; `registry` lists them."""
