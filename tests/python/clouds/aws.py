"""Amazon's EC2 by moto, with boto3 as the console of whoever owns it: python aws.py

The first line of standard output says where moto's server is and what is there from the beginning. Then each line of standard input is a
call, [NAME, {PARAMETER: VALUE}], by boto3's names, such as ["describe_route_tables", {}], and each line of standard output is what
came of it: {"answer": …}, {"status": …, "code": …, "message": …} or {"failed": …}. "join" makes an instance with the address and
the Ethernet address of a node.
"""

import json
import os
import sys

# A made-up image is enough, and the list of real ones is long.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
ZONE = REGION + "a"

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="console",
                   aws_secret_access_key="console", config=Config(proxies={}, retries={"total_max_attempts": 1}))
vpc = ec2.create_vpc(CidrBlock="192.168.0.0/16")["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="192.168.77.0/24", AvailabilityZone=ZONE)["Subnet"]["SubnetId"]
main_table = ec2.describe_route_tables(Filters=[
    {"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}])["RouteTables"][0]["RouteTableId"]
image = ec2.register_image(Name="node", Architecture="x86_64")["ImageId"]


def join(address, mac):
    """A new instance."""
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet, PrivateIpAddress=address)
    instance = made["Instances"][0]
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    # Nobody can choose it at the API; moto makes one up.
    ec2_backends[DEFAULT_ACCOUNT_ID][REGION].get_network_interface(interface).mac_address = mac
    return {"instance": instance["InstanceId"], "interface": interface}


def call(name, parameters):
    """What comes of a call."""
    try:
        answer = join(**parameters) if name == "join" else getattr(ec2, name)(**parameters)
    except ClientError as error:
        said = error.response
        status = said["ResponseMetadata"]["HTTPStatusCode"]
        return {"status": status, "code": said["Error"]["Code"], "message": said["Error"]["Message"]}
    except Exception as error:  # The test is to see whatever it is.
        return {"failed": repr(error)}
    answer.pop("ResponseMetadata", None)
    return {"answer": answer}


def say(value):
    print(json.dumps(value, default=str), flush=True)


say({"port": port, "region": REGION, "zone": ZONE, "account": DEFAULT_ACCOUNT_ID, "vpc": vpc, "subnet": subnet, "table": main_table})
for line in sys.stdin:
    say(call(*json.loads(line)))
