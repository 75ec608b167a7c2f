"""A ZooKeeper client that is not ours, driven by lines of JSON.

Reads one request a line from standard input and answers each with one line:
{"at": seconds of CLOCK_MONOTONIC when the servers had answered, "result": ...} or {"error": name, "message": text}.
Values are bytes, carried as strings of the characters U+0000 to U+00FF. Arguments: servers, the session's seconds and,
if there is to be one, a limit to the seconds that an operation may take.
"""

import json
import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import make_digest_acl


LIMIT = None


def call(client, name, *arguments, **options):
    return getattr(client, name + "_async")(*arguments, **options).get(timeout=LIMIT)


def get(client, request):
    try:
        value, stat = call(client, "get", request["path"])
    except KazooException as error:
        if type(error).__name__ == "NoNodeError":
            return None
        raise
    return {"value": value.decode("latin-1"), "owner": stat.ephemeralOwner}


def create(client, request):
    call(
        client,
        "create",
        request["path"],
        request["value"].encode("latin-1"),
        ephemeral=request["ephemeral"],
        makepath=True,
    )


def tree(client, request):
    nodes, left = {}, [request["path"]]
    while left:
        parents = [(path, client.get_children_async(path)) for path in left]
        left = []
        for path, answer in parents:
            try:
                children = answer.get(timeout=LIMIT)
            except KazooException as error:
                if type(error).__name__ == "NoNodeError":
                    continue
                raise
            left += [path.rstrip("/") + "/" + child for child in children]
        for path, answer in [(path, client.get_async(path)) for path in left]:
            try:
                nodes[path] = answer.get(timeout=LIMIT)[0].decode("latin-1")
            except KazooException as error:
                if type(error).__name__ != "NoNodeError":
                    raise
    return nodes


def storm(client, request):
    value = request["value"].encode("latin-1")
    answers = [client.set_async(request["path"], value) for _ in range(request["writes"])]
    for answer in answers:
        answer.get(timeout=LIMIT)


def acls(client, request):
    lists, _ = client.get_acls(request["path"])
    return [f"{acl.id.scheme} {'|'.join(acl.acl_list)}" for acl in lists]


OPERATIONS = {
    "authenticate": lambda client, request: client.add_auth("digest", request["value"]),
    "acls": acls,
    "create": create,
    "tree": tree,
    "storm": storm,
    "set": lambda client, request: call(client, "set", request["path"], request["value"].encode("latin-1")),
    "delete": lambda client, request: call(client, "delete", request["path"]),
    "get": get,
    "forbid": lambda client, request: client.set_acls(
        request["path"], [make_digest_acl("nobody", "else", all=True)]
    ),
}


def answer(client, request):
    result = OPERATIONS[request["operation"]](client, request)
    at = time.clock_gettime(time.CLOCK_MONOTONIC)
    return {"at": at, "result": result if request["operation"] in ("get", "acls", "tree") else None}


def main():
    global LIMIT
    servers, timeout, *limit = sys.argv[1:]
    LIMIT = float(limit[0]) if limit else None
    client = KazooClient(hosts=servers, timeout=float(timeout))
    client.start(timeout=30)
    print(json.dumps({"at": time.clock_gettime(time.CLOCK_MONOTONIC), "result": None}), flush=True)
    for line in sys.stdin:
        try:
            reply = answer(client, json.loads(line))
        except Exception as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(reply), flush=True)
    client.stop()


main()
