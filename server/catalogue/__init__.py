"""Models and adapters that users registered: what there is, for whom, and how it comes to this node.

`registering` and `uploading` take them, `hosting` keeps this node in step with the records, `catalogue` answers what may be used,
`kinds` knows the kinds of models, `places` where a model's files may lie.
"""
