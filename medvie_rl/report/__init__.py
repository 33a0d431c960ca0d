"""`medvie report`: one HTML file on what a run changed, for people."""
