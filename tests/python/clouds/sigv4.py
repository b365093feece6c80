"""Signs requests with botocore's signer: a list of them comes in as JSON, the headers of each go out.

The time of each request is given; botocore has it from a function of its own, which is replaced.
"""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def signed(case):
    moment = datetime.datetime.fromtimestamp(case["seconds"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_, **__: moment.replace(tzinfo=None)
    request = AWSRequest(method=case["method"], url=case["url"], data=case["body"].encode(), headers=case["headers"])
    credentials = Credentials(case["id"], case["secret"], case["token"])
    signer = botocore.auth.S3SigV4Auth if case["service"] == "s3" else botocore.auth.SigV4Auth
    signer(credentials, case["service"], case["region"]).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


json.dump([signed(case) for case in json.load(sys.stdin)], sys.stdout)
