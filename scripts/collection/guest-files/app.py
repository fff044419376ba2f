"""The web application of the workload ``web``: accounts in PostgreSQL, served by Flask."""

import random
from collections import OrderedDict

import psycopg2
from flask import Flask, render_template_string

app = Flask(__name__)
database = psycopg2.connect(dbname="shop")
database.autocommit = True
recent: "OrderedDict[int, list[tuple[object, ...]]]" = OrderedDict()

PAGE = """<!doctype html><title>Branch {{ branch }}</title>
<h1>{{ rows|length }} accounts of branch {{ branch }}</h1>
<table>{% for account, balance, filler in rows %}
<tr><td>{{ account }}</td><td>{{ balance }}</td><td>{{ filler.strip() or "-" }}</td></tr>
{% endfor %}</table>"""


@app.route("/app/accounts")
def accounts() -> str:
    """Show fifty neighbouring accounts, from the last ones asked for or from the database."""
    first = random.randrange(1, 600_000)
    if first not in recent:
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT aid, abalance, filler FROM pgbench_accounts WHERE aid BETWEEN %s AND %s",
                (first, first + 49),
            )
            recent[first] = cursor.fetchall()
        if len(recent) > 2000:
            recent.popitem(last=False)
    return render_template_string(PAGE, branch=first // 100_000, rows=recent[first])
