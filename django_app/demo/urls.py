"""The addresses of the demo."""

from django.urls import path

from demo import views

urlpatterns = [
    path("", views.index, name="index"),
    path("analysis/<int:pk>/", views.analysis, name="analysis"),
    path("analysis/<int:pk>/progress.json", views.progress_json, name="progress"),
    path("analysis/<int:pk>/result/", views.result, name="result"),
    path("analysis/<int:pk>/kill/", views.kill, name="kill"),
    path("analysis/<int:pk>/serial/", views.serial, name="serial"),
]
