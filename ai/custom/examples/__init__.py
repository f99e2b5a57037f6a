"""Custom models to read and to use: `upscaling` by Pillow; `captioning`, `classification` and `embedding` by transformers, of
whatever folder they are given. What takes long to import is imported when the model is loaded."""
