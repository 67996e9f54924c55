"""What a report says of people: whether being personal pays, for whom, what they want, and how they answer.

The same first part for `pal fit` and for the pipeline; plain HTML and CSS, without a plotting library.
"""
