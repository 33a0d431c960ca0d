"""`medvie doctor`: is this machine, or this cluster, fit for what a configuration wants?"""
