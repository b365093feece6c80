"""Amazon's own library against the lab's cloud, on a node: what it does not understand, the lab has wrong.

python aws_client.py URL: each line of standard input is a step, [NAME, {PARAMETER: VALUE}]; each line of
standard output is what came of it. Steps are calls by boto3's names, with the role's credentials; "as" makes a client with a key;
"imds" asks for the role's credentials as botocore does; "text" asks the metadata service for a text.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.credentials import InstanceMetadataProvider
from botocore.exceptions import ClientError
from botocore.utils import IMDSFetcher, InstanceMetadataFetcher

URL = sys.argv[1]
CONFIG = Config(proxies={}, retries={"total_max_attempts": 1}, read_timeout=5)


def client(**key):
    return boto3.client("ec2", region_name="eu-central-1", endpoint_url=URL, config=CONFIG, **key)


def by_role():
    """A client with what the role has now."""
    fetcher = InstanceMetadataFetcher(timeout=5, num_attempts=1)
    found = InstanceMetadataProvider(iam_role_fetcher=fetcher).load()
    frozen = found.get_frozen_credentials()
    return client(aws_access_key_id=frozen.access_key, aws_secret_access_key=frozen.secret_key,
                  aws_session_token=frozen.token)


class Text(IMDSFetcher):
    def get(self, path, v1_disabled=False):
        self._imds_v1_disabled = v1_disabled
        answer = self._get_request(path, None, token=self._fetch_metadata_token())
        return answer.text


ec2 = None


def step(name, parameters):
    """What comes of a step."""
    global ec2
    if name == "as":
        ec2 = client(**parameters) if parameters else by_role()
        return {}
    if name == "imds":
        return InstanceMetadataFetcher(timeout=5, num_attempts=1, config=parameters).retrieve_iam_role_credentials()
    if name == "text":
        return {"text": Text(timeout=5, num_attempts=1).get(**parameters)}
    answer = getattr(ec2, name)(**parameters)
    answer.pop("ResponseMetadata")
    return answer


for line in sys.stdin:
    try:
        came = {"answer": step(*json.loads(line))}
    except ClientError as error:
        said = error.response
        came = {"status": said["ResponseMetadata"]["HTTPStatusCode"], "code": said["Error"]["Code"]}
    except Exception as error:  # The test is to see whatever it is.
        came = {"failed": repr(error)}
    print(json.dumps(came, default=str), flush=True)
