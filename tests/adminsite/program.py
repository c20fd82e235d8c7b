"""Somebody who uses the admin: does what stdin says, a JSON list of [path, form or null], and prints what came back."""

from __future__ import annotations

import html
import json
import re
import sys
from typing import Any

import django

BASE = "/admin/jobsup/schedule/"


def main() -> None:
    """Log in and do it."""
    django.setup()
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.test.utils import setup_test_environment

    setup_test_environment()
    users: Any = get_user_model()
    user = users.objects.filter(username="admin").first() or users.objects.create_superuser("admin", "a@b.example", "x")
    client = Client()
    client.force_login(user)
    answers = []
    for path, form in json.load(sys.stdin):
        answer = client.get(BASE + path) if form is None else client.post(BASE + path, form)
        text = answer.content.decode()
        errors = re.findall(r'<ul class="errorlist[^"]*"[^>]*>(.*?)</ul>', text, re.DOTALL)
        told = [html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", error))).strip() for error in errors]
        answers.append({"status": answer.status_code, "errors": told, "text": text})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
