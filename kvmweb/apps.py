from django.apps import AppConfig


class KvmwebConfig(AppConfig):
    name = "kvmweb"
    default_auto_field = "django.db.models.BigAutoField"
