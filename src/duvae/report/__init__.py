"""Tables, figures and pages, made from the outputs of the stages."""
