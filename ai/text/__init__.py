"""Text: any causal language model in transformers' layout, written token by token, all requests of a model in one batch.

`cards` says what is known of a model before it is loaded, `model` loads it and runs its passes over `cache`, `row` is one text
on its way (`sampling`, `detokenising` and `stopping` are its parts), `writer` the rows of one model, `texts` all of them, in turn
with the pictures of the same device.
"""
