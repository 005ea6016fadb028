"""Python's requests, with a session, which keeps connections."""
import sys

import requests
import table

url, name, _ = sys.argv[1:]
session = requests.Session()
session.trust_env = False


def send(method, target, password, body):
    response = session.request(method, url + target, data=body, auth=(name.encode(), password.encode()))
    return response.status_code, response.headers, response.content


for row in table.rows(send, name):
    print(row)
