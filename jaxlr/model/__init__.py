"""The objective of one lane: examples, loss, penalty, and their derivatives by hand."""
