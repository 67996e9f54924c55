"""What a report says of people, for `pal fit` and the pipeline: plain HTML and CSS, no plotting library."""
