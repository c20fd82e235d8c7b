"""The pages: a form that answers at once, and the live view of what it started.

A view only inserts and reads rows. Nothing is started in the web process, so it works the same under every server.
"""

from dataclasses import asdict

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from demo import analyses, tasks
from demo.forms import AnalysisForm
from demo.kill import kill_a_worker
from demo.models import Analysis
from demo.progress import progress, supervisor_in_words
from demo.results import result as result_of

LATEST = 8
SHOWN = Analysis.objects.filter(serial_of=None)  # a serial run is shown on the page of its analysis


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Show the form and the latest analyses; a valid form starts one and shows it."""
    form = AnalysisForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(analyses.start(form.cleaned_data["packages"], form.cleaned_data["chunk_size"]))
    latest = SHOWN.order_by("-pk")[:LATEST]
    told = [{"analysis": analysis, "progress": progress(analysis)} for analysis in latest]
    return render(request, "demo/index.html", {"form": form, "latest": told, "supervisor": supervisor_in_words()})


@never_cache
@require_GET
def analysis(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one analysis: its progress and, when it is finished, its result."""
    found = get_object_or_404(SHOWN, pk=pk)
    now = progress(found)
    context = {"analysis": found, "progress": now, "supervisor": now.supervisor, "may_kill": settings.DEBUG}
    if now.state == "finished":
        context |= result_of(found)
    return render(request, "demo/analysis.html", context)


@never_cache
@require_GET
def progress_json(request: HttpRequest, pk: int) -> JsonResponse:
    """Return how far an analysis is, and how far its serial run."""
    found = get_object_or_404(SHOWN, pk=pk)
    serial = Analysis.objects.filter(serial_of=found).first()
    now = progress(found)
    return JsonResponse(
        asdict(now) | {"share": now.share, "serial": {"state": "none"} if serial is None else asdict(progress(serial))}
    )


@never_cache
@require_GET
def result(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the result as a piece of a page."""
    return render(request, "demo/_result.html", result_of(get_object_or_404(SHOWN, pk=pk)))


@require_POST
def kill(request: HttpRequest, pk: int) -> HttpResponse:
    """Kill a worker that works on the analysis; on a demo's own machine only."""
    if not settings.DEBUG:
        return HttpResponseForbidden("Workers can be killed from the page only where DEBUG is on.")
    found = get_object_or_404(SHOWN, pk=pk)
    sent = kill_a_worker(found, "page")
    if request.headers.get("Accept") == "application/json":
        return JsonResponse({"killed": str(sent) if sent else None})
    return redirect(found)


@require_POST
def serial(request: HttpRequest, pk: int) -> HttpResponse:
    """Send the serial run of a finished analysis as one job: for a request it takes far too long."""
    found = get_object_or_404(SHOWN.exclude(finished_at=None), pk=pk)
    with transaction.atomic():
        prepared = analyses.prepare_serial(found)
        if prepared:
            tasks.analyse_serially.enqueue(prepared.pk)
    if request.headers.get("Accept") == "application/json":
        return JsonResponse({"sent": prepared is not None})
    return redirect(found)
