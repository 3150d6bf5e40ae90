"""The description of the HTTP API, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1), made from the router's routes.

A module for each group of endpoints says what there is to say; which of them this server has, the routes say.
"""

from mechamap_rt.http.openapi.document import GROUPS, describe

__all__ = ["GROUPS", "describe"]
