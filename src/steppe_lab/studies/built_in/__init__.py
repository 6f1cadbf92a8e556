"""The studies that come with steppe, each in a module of its name.

A module has one function of that name, which returns the mapping of a study file. As it
stands a study has its published size; `scales` has this size as "full", one for two
cores as "laptop", and one of a few seconds, which shows that all of it works, as
"smoke".
"""
