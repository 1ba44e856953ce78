"""The vocabulary: every job's signature and result as data, one file per family, no logic.

Conventions. A class is named after the job in CamelCase and says the job's name in NAME. What comes from the URL's
path is the field `name`; keys of the query and the body have the Docker API's own spelling, and so have the fields
of results. Defaults are the Docker API's. Units are the Docker API's too, and said in `Meta(description=…)`.
"""
