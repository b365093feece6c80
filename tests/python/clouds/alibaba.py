"""Calls the VPC API by Alibaba Cloud's own libraries: python alibaba.py v1|v3 HOST PORT key ID SECRET|role.

Each line of standard input is a call, [ACTION, {PARAMETER: VALUE}]; each line of standard output is what came of it:
{"answer": …}, {"status": …, "code": …, "message": …} or {"failed": …}. The newer libraries read answers into classes; what of an answer these
did not take is named: {"unread": …}.
"""

import json
import re
import sys

REGION = "cn-hangzhou"


def older(host, port, credentials):
    from aliyunsdkcore.acs_exception.exceptions import ServerException
    from aliyunsdkcore.auth.credentials import EcsRamRoleCredential
    from aliyunsdkcore.client import AcsClient
    from importlib import import_module

    plain = {"region_id": REGION, "port": int(port), "auto_retry": False, "timeout": 10}
    if credentials[0] == "key":
        client = AcsClient(credentials[1], credentials[2], **plain)
    else:
        client = AcsClient(credential=EcsRamRoleCredential("FlannelNode"), **plain)

    def call(action, parameters):
        name = action + "Request"
        request = getattr(import_module("aliyunsdkvpc.request.v20160428." + name), name)()
        request.set_accept_format("JSON")
        request.set_protocol_type("http")
        request.set_endpoint(host)
        for parameter, value in parameters.items():
            # The region is the client's: the library has no setter for it.
            if parameter != "RegionId":
                getattr(request, "set_" + parameter)(value)
        try:
            return {"answer": json.loads(client.do_action_with_exception(request))}
        except ServerException as error:
            return {"status": error.http_status, "code": error.error_code, "message": error.message}

    return call


def newer(host, port, credentials):
    from alibabacloud_credentials.client import Client as Credentials
    from alibabacloud_credentials.models import Config as CredentialsConfig
    from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
    from alibabacloud_tea_openapi.utils_models import Config
    from alibabacloud_vpc20160428 import models
    from alibabacloud_vpc20160428.client import Client
    from darabonba.runtime import RuntimeOptions

    if credentials[0] == "key":
        how = CredentialsConfig(type="access_key", access_key_id=credentials[1], access_key_secret=credentials[2])
    else:
        how = CredentialsConfig(type="ecs_ram_role", disable_imds_v1=True)
    endpoint = f"{host}:{port}"
    client = Client(Config(credential=Credentials(how), endpoint=endpoint, protocol="HTTP", region_id=REGION))
    sent = client.call_api
    came = {}

    def recorded(*arguments):
        came["whole"] = sent(*arguments)
        return came["whole"]

    client.call_api = recorded

    def call(action, parameters):
        request = getattr(models, action + "Request")().from_map(parameters)
        name = re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", action).lower().replace("v_routers", "_vrouters")
        try:
            answer = getattr(client, name + "_with_options")(request, RuntimeOptions())
        except AlibabaCloudException as error:
            return {"status": error.status_code, "code": error.code, "message": error.message}
        read, whole = answer.body.to_map(), came["whole"]["body"]
        return {"answer": read, "unread": unread(whole, read)}

    return call


def unread(whole, read, place=""):
    """Where there is something that was not read, or read as something else."""
    if isinstance(whole, dict) and isinstance(read, dict):
        return [found for name in whole for found in unread(whole[name], read.get(name), f"{place}.{name}")]
    if isinstance(whole, list) and isinstance(read, list) and len(whole) == len(read):
        return [found for one, other in zip(whole, read) for found in unread(one, other, place)]
    return [] if whole == read else [place]


def main():
    scheme, host, port, *credentials = sys.argv[1:]
    call = {"v1": older, "v3": newer}[scheme](host, port, credentials)
    for line in sys.stdin:
        try:
            came = call(*json.loads(line))
        except Exception as error:  # The test is to see whatever it is.
            came = {"failed": repr(error)}
        print(json.dumps(came), flush=True)


main()
