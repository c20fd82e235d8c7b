"""`manage.py jobs torture`: supervisors on a database of their own, hurt at random, judged by the promises."""
