"""`medvie eval`: several policies and an OCR baseline on the same documents, side by side."""
