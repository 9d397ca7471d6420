"""What the registry's calls take and give. No logic: names, types and words for the schema."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from controlplane.api.inputs import Input
from controlplane.api.rows import EachByItself
from registry.domain.formats import FormatKind
from registry.domain.golden import MAX_BYTES, MAX_EXAMPLES, MAX_NAME, NAME
from registry.models import AliasMove, GoldenExample, GoldenSet, Model, Version


class AliasOutput(serializers.Serializer[Any]):
    """An alias and the number of the version it points to."""

    name = serializers.CharField()
    version = serializers.IntegerField(source="number")


class TroubleFields(serializers.Serializer[Any]):
    """Why something of MLflow cannot be read, in its own words; all null when it can. It is tried again for ever."""

    trouble = serializers.CharField(source="trouble_error", allow_null=True, default=None)
    trouble_since = serializers.DateTimeField(allow_null=True, default=None)
    trouble_until = serializers.DateTimeField(
        allow_null=True, default=None, help_text="before this it is not tried again"
    )


LONGEST_MODEL_NAME = 256

TROUBLE = ("trouble", "trouble_since", "trouble_until")


class ModelOutput(TroubleFields, serializers.ModelSerializer[Model]):
    """A registered model, as MLflow has it."""

    version_count = serializers.IntegerField()
    changed_count = serializers.IntegerField(help_text="versions whose files are not what was registered")
    newest_version = serializers.IntegerField(source="newest_number", allow_null=True)
    newest_at = serializers.DateTimeField(allow_null=True)
    aliases = AliasOutput(many=True)
    synced_at = serializers.DateTimeField(read_only=True, help_text="when the mirror last saw it")

    class Meta:
        list_serializer_class = EachByItself
        model = Model
        fields = (
            "name",
            "description",
            "tags",
            "version_count",
            "changed_count",
            "newest_version",
            "newest_at",
            "aliases",
            "stored_updated_at",
            "synced_at",
            "former_name",
            "renamed_at",
            "gone_at",
            "gone_why",
            *TROUBLE,
        )
        read_only_fields = fields


class DatasetOutput(serializers.Serializer[Any]):
    """A data set that the version's run read, or that it was measured on."""

    name = serializers.CharField()
    digest = serializers.CharField()
    # The framework takes declared fields out of the class, so its own property `context` stays.
    context = serializers.CharField()  # type: ignore[assignment]


class VersionOutput(TroubleFields, serializers.ModelSerializer[Version]):
    """A model version, without the list of its files."""

    model = serializers.CharField(source="model.name")
    version = serializers.IntegerField(source="number")
    aliases: serializers.Field[Any, Any, Any, Any] = serializers.SlugRelatedField(
        many=True, read_only=True, slug_field="name"
    )
    datasets = DatasetOutput(many=True)
    params = serializers.DictField(child=serializers.CharField())
    metrics = serializers.DictField(child=serializers.FloatField())
    tags = serializers.DictField(child=serializers.CharField())
    may_launch = serializers.BooleanField()

    class Meta:
        list_serializer_class = EachByItself
        model = Version
        fields: tuple[str, ...] = (
            "model",
            "version",
            "label",
            "status",
            "description",
            "aliases",
            "source",
            "run_id",
            "run_name",
            "logged_model_id",
            "created_at",
            "tags",
            "params",
            "metrics",
            "datasets",
            "manifest_digest",
            "manifest_bytes",
            "manifest_state",
            "manifest_checked_at",
            "manifest_problem",
            "may_launch",
            "gone_at",
            *TROUBLE,
        )
        read_only_fields = fields


class FileOutput(serializers.Serializer[Any]):
    """One file of a manifest."""

    path = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes")
    sha256 = serializers.CharField(help_text="hex")
    kind = serializers.CharField(
        allow_blank=True, help_text=f'what its content is: {", ".join(FormatKind)}; "": not looked at yet'
    )
    why = serializers.CharField(
        allow_blank=True, help_text='why it is not served unless the operator allows it; "": it is data'
    )
    finding = serializers.CharField(allow_blank=True, help_text='what else is to be known of it; mostly ""')


class VersionDetailOutput(VersionOutput):
    """A model version with its files."""

    manifest = FileOutput(many=True, allow_null=True, source="files")
    findings = serializers.ListField(
        child=serializers.CharField(), help_text="what people should know of the files, a sentence each"
    )

    class Meta(VersionOutput.Meta):
        fields = (*VersionOutput.Meta.fields, "manifest", "findings")
        read_only_fields = fields


class AliasMoveOutput(serializers.ModelSerializer[AliasMove]):
    """One move of an alias. `version` is null when it was removed, `previous` when it was new."""

    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    previous = serializers.IntegerField(source="previous.number", allow_null=True, default=None)

    class Meta:
        list_serializer_class = EachByItself
        model = AliasMove
        fields = ("alias", "version", "previous", "moved_at", "by", "why")
        read_only_fields = fields


class GoldenSetOutput(serializers.ModelSerializer[GoldenSet]):
    """One revision of a golden set."""

    created_by = serializers.CharField(source="created_by.username", allow_null=True, default=None)

    class Meta:
        list_serializer_class = EachByItself
        model = GoldenSet
        fields = ("name", "revision", "label", "digest", "size", "created_by", "created_at")
        read_only_fields = fields


class MessageOutput(serializers.Serializer[Any]):
    """One turn of a chat."""

    role = serializers.CharField()
    content = serializers.CharField()


class GoldenExampleOutput(serializers.ModelSerializer[GoldenExample]):
    """One prompt of a golden set."""

    messages = MessageOutput(many=True)

    class Meta:
        list_serializer_class = EachByItself
        model = GoldenExample
        fields = ("position", "messages", "expected", "scorer", "max_tokens")
        read_only_fields = fields


class ModelFilter(Input):
    """Which models to list."""

    search = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=LONGEST_MODEL_NAME,
        help_text="part of the name",
    )


class GoldenSetInput(Input):
    """A golden set to keep: `text` in JSON Lines, or the same objects as `examples`; one of the two."""

    name = serializers.RegexField(
        f"^{NAME.pattern}$", max_length=MAX_NAME, help_text="lower-case letters, digits and dashes"
    )
    text = serializers.CharField(
        required=False,
        max_length=MAX_BYTES,
        trim_whitespace=False,
        help_text='one object a line: {"prompt" or "messages", "expected", "scorer"?, "max_tokens"?}',
    )
    examples = serializers.ListField(child=serializers.JSONField(), required=False, max_length=MAX_EXAMPLES)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("text" in attrs) == ("examples" in attrs):
            raise serializers.ValidationError("Give either text or examples, exactly one of them.")
        return attrs
