"""Python's http.client, with one connection for each request."""
import base64
import http.client
import sys
import urllib.parse

import table

url, name, _ = sys.argv[1:]


def send(method, target, password, body):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    connection.request(method, target, body, {"Authorization": "Basic " + credentials})
    response = connection.getresponse()
    answer = response.status, response.headers, response.read()
    connection.close()
    return answer


for row in table.rows(send, name):
    print(row)
