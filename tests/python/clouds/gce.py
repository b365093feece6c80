"""Google's own libraries against the lab's cloud: what they do not understand, the lab has wrong.

Arguments: the API's URL, the file of a service account's key, the file of a user's credentials. Prints JSON: what was found,
by the name of the step.
"""

import json
import sys

import google.auth
import google.auth.transport.requests
from google.auth.compute_engine import Credentials as MachineCredentials
from google.auth.compute_engine import _metadata
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

SCOPE = "https://www.googleapis.com/auth/compute"
url, key_file, user_file = sys.argv[1:]
found = {}


def compute(credentials):
    """A client by the description that comes with the library."""
    options = {"api_endpoint": f"{url}/compute/v1/"}
    return build("compute", "v1", credentials=credentials, client_options=options,
                 static_discovery=True, cache_discovery=False)


def refused(request):
    """What the library makes of an error."""
    try:
        request.execute(num_retries=0)
    except HttpError as error:
        details = error.error_details
        reason = details[0]["reason"] if details and "reason" in details[0] else None
        return [error.status_code, error.reason, reason]
    return "not refused"


def finish(client, project, operation):
    """Asks as flanneld does, until the operation is over."""
    seen = [operation["status"]]
    while operation["status"] != "DONE":
        operation = client.globalOperations().get(project=project, operation=operation["name"]).execute()
        if operation["status"] != seen[-1]:
            seen.append(operation["status"])
    return operation, seen


# The machine: metadata by the library, which looks for the header in both directions.
http = google.auth.transport.requests.Request()
found["on_gce"] = _metadata.ping(http)
machine, project = google.auth.default(scopes=[SCOPE])
found["default"] = [type(machine).__module__, project]
machine = MachineCredentials()
machine.refresh(http)
found["machine"] = [machine.service_account_email, list(machine.scopes), bool(machine.token)]
name = _metadata.get(http, "instance/name")
zone = _metadata.get(http, "instance/zone").rsplit("/", 1)[1]
interfaces = _metadata.get(http, "instance/network-interfaces/", params={"alt": "json"}, recursive=True)
found["metadata"] = [_metadata.get(http, "instance/id"), name, zone, interfaces[0]["network"], interfaces[0]["ip"]]

# The account with a key, and the user.
key = service_account.Credentials.from_service_account_file(key_file, scopes=[SCOPE])
key.refresh(http)
found["key"] = bool(key.token)
user = user_credentials.Credentials.from_authorized_user_file(user_file)
user = user_credentials.Credentials(None, refresh_token=user.refresh_token, client_id=user.client_id,
                                    client_secret=user.client_secret,
                                    token_uri=json.load(open(user_file))["token_uri"])
user.refresh(http)
found["user"] = bool(user.token)

# The API, with both kinds of credentials.
client = compute(key)
instance = compute(machine).instances().get(project=project, zone=zone, instance=name).execute()
network = instance["networkInterfaces"][0]["network"]
found["instance"] = [instance["canIpForward"], instance["selfLink"], network]
found["network"] = client.networks().get(project=project, network=network.rsplit("/", 1)[1]).execute()["selfLink"] == network


def body(number, **other):
    """A route such as flanneld makes."""
    route = {"name": f"flannel-10-5-{number}-0-24", "destRange": f"10.5.{number}.0/24", "network": network,
             "nextHopInstance": instance["selfLink"], "priority": 1000, "tags": []}
    return {**route, **other}


request_id = "6b1f39b4-2a83-4a0c-9a6d-3d6c9d3a0001"
insert = client.routes().insert(project=project, body=body(1), requestId=request_id)
first = insert.execute()
found["again"] = first["name"] == insert.execute()["name"]
operation, seen = finish(client, project, first)
found["insert"] = [operation["operationType"], seen[-1], "error" in operation]
found["target"] = operation["targetLink"].rsplit("/", 1)[1]
operation = client.routes().insert(project=project, body=body(2)).execute()
operation = client.globalOperations().wait(project=project, operation=operation["name"]).execute()
found["wait"] = operation["status"]
for number in (3, 4):
    finish(client, project, client.routes().insert(project=project, body=body(number)).execute())

route = client.routes().get(project=project, route="flannel-10-5-1-0-24").execute()
found["route"] = [route["destRange"], route["nextHopInstance"] == instance["selfLink"], route["priority"]]
found["by_id"] = client.routes().get(project=project, route=route["id"]).execute()["name"]

# Pages and filters.
request, pages = client.routes().list(project=project, maxResults=3), []
while request is not None:
    page = request.execute()
    pages.append([item["name"] for item in page.get("items", [])])
    request = client.routes().list_next(request, page)
found["pages"] = pages
for title, expression in {
    "filter_regex": f'nextHopInstance eq ".*/zones/{zone}/instances/{name}"',
    "filter_equal": 'name = "flannel-10-5-2-0-24"',
    "filter_none": 'name eq "other-.*"',
}.items():
    listed = client.routes().list(project=project, filter=expression).execute()
    found[title] = [item["name"] for item in listed.get("items", [])]

# Errors.
routes = client.routes()
found["missing"] = refused(routes.get(project=project, route="flannel-10-5-9-0-24"))
found["exists"] = refused(routes.insert(project=project, body=body(1)))
found["invalid"] = refused(routes.insert(project=project, body=body(9, name="Flannel_9")))
found["no_instance"] = refused(routes.insert(project=project, body=body(9, nextHopInstance=instance["selfLink"] + "x")))
found["bad_filter"] = refused(routes.list(project=project, filter="name ~ x"))
# The library takes a 401 as the end of a token, and gets another one.
key.token = "ya29.over"
found["refreshed"] = client.routes().get(project=project, route="flannel-10-5-1-0-24").execute()["name"]
weak = service_account.Credentials.from_service_account_file(key_file, scopes=[SCOPE + ".readonly"])
found["read_only"] = refused(compute(weak).routes().delete(project=project, route="flannel-10-5-1-0-24"))

# Removal, by name and by number; a route that is being removed is not ready.
deletion = routes.delete(project=project, route="flannel-10-5-1-0-24").execute()
found["not_ready"] = refused(routes.insert(project=project, body=body(1)))
finish(client, project, deletion)
two = routes.get(project=project, route="flannel-10-5-2-0-24").execute()
finish(client, project, routes.delete(project=project, route=two["id"]).execute())
found["left"] = [item["name"] for item in routes.list(project=project).execute()["items"]]
print(json.dumps(found))
