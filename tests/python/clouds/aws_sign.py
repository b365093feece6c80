"""Signs requests with botocore's own signer: a JSON list of cases on standard input, their headers on standard output."""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

answers = []
for case in json.load(sys.stdin):
    moment = datetime.datetime.fromtimestamp(case["time"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda remove_tzinfo=True, moment=moment: moment
    request = AWSRequest(
        method="POST",
        url=case["url"],
        data=case["body"],
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    credentials = Credentials(case["id"], case["secret"], case["token"])
    botocore.auth.SigV4Auth(credentials, case["service"], case["region"]).add_auth(request)
    answers.append({name.lower(): value for name, value in request.headers.items()})
json.dump(answers, sys.stdout)
