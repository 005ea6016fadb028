"""Python's aiohttp, with one session."""
import asyncio
import sys

import aiohttp
import table

url, name, _ = sys.argv[1:]
loop = asyncio.new_event_loop()


async def open_session():
    return aiohttp.ClientSession()


session = loop.run_until_complete(open_session())


async def request(method, target, password, body):
    auth = aiohttp.BasicAuth(name, password, encoding="utf-8")
    async with session.request(method, url + target, data=body, auth=auth) as response:
        return response.status, response.headers, await response.read()


for row in table.rows(lambda *args: loop.run_until_complete(request(*args)), name):
    print(row)
loop.run_until_complete(session.close())
