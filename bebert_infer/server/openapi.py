"""The description of all paths by the OpenAPI Specification 3.1, whose schemas are JSON Schema."""

from typing import Any

STRING = {"type": "string"}
PAIR = {"type": "array", "items": STRING, "minItems": 1, "maxItems": 2, "description": "A text, or a pair of texts."}
NAMED = {
    "type": "object",
    "properties": {"text": STRING, "text_pair": {"type": ["string", "null"]}},
    "required": ["text"],
    "additionalProperties": False,
}
EARLY_EXIT = {
    "anyOf": [{"const": "exact"}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "null"}],
    "description": "Ask no further member once none can change the label (exact), or at this probability.",
}
TOP_K = {"type": ["integer", "null"], "minimum": 1, "description": "Labels of an answer; default all."}
FLAG = {"type": ["boolean", "null"], "default": False}
TRUNCATE = FLAG | {"description": "Cut the end off texts of too many tokens, which are refused otherwise."}
LABEL = {
    "type": "object",
    "properties": {"label": STRING, "score": {"type": "number"}},
    "required": ["label", "score"],
}
REFUSALS = {
    "400": "No JSON, or no HTTP request.",
    "401": "The token is missing or wrong.",
    "408": "The request came too slowly.",
    "413": "Too many bytes, texts or characters.",
    "415": "A coded body, or one that is not UTF-8.",
    "422": "A value that is not accepted, such as a text of too many tokens.",
    "500": "The engine failed.",
    "503": "Too many texts wait already; the header Retry-After says when to try again.",
    "504": "No answer within the time limit.",
}


def description(facts: dict[str, Any]) -> dict[str, Any]:
    """The document, for the model and the limits of `server_facts`."""
    texts = facts["max_client_batch_size"]
    batch = {"type": "array", "minItems": 1, "maxItems": texts}
    hub = _object(
        {
            "inputs": {"anyOf": [STRING, NAMED, batch | {"items": {"anyOf": [STRING, NAMED, PAIR]}}]},
            "parameters": _object(
                {
                    "top_k": TOP_K,
                    "function_to_apply": {"enum": ["softmax", "sigmoid", "none", None]},
                    "early_exit": EARLY_EXIT,
                    "truncate": TRUNCATE,
                }
            )
            | {"type": ["object", "null"]},
            "options": {"type": ["object", "null"], "description": "Of the hub's own servers; without effect."},
        },
        ["inputs"],
    )
    tei = _object(
        {
            "inputs": {"anyOf": [STRING, NAMED, PAIR, batch | {"items": {"anyOf": [NAMED, PAIR]}}]},
            "truncate": TRUNCATE,
            "truncation_direction": {"enum": ["Right", "right", None]},
            "raw_scores": FLAG | {"description": "Scores of the combination rule instead of probabilities."},
            "top_k": TOP_K,
            "early_exit": EARLY_EXIT,
        },
        ["inputs"],
    )
    labels = {"type": "array", "items": LABEL, "description": "Best first."}
    lists = {"type": "array", "items": {"$ref": "#/components/schemas/Labels"}}
    schemas = {
        "HubRequest": hub,
        "TeiRequest": tei,
        "Labels": labels,
        "HubAnswer": lists | {"description": "One list for each text, also for a single one."},
        "TeiAnswer": {"anyOf": [{"$ref": "#/components/schemas/Labels"}, lists]},
        "Votes": _votes(),
        "Error": _object({"error": STRING, "error_type": STRING}, ["error"]),
    }
    as_hub = "As InferenceClient.text_classification of huggingface_hub: a list is a batch."
    as_tei = "As Text Embeddings Inference: a list of strings is one text or pair; with parameters, as POST /."
    paths = {
        "/": {"get": _get("page", "A page to try the model.", "text/html"), "post": _post(as_hub, "Hub", "classify")},
        "/predict": {"post": _post(as_tei, "Tei", "predict")},
        "/votes": {"post": _post("One text, and what each member says.", "Hub", "votes", "Votes")},
        "/health": {"get": _get("health", "Whether texts are answered.", "application/json", open=True, may_fail=True)},
        "/info": {"get": _get("info", "The model, the engine and the limits.", "application/json", open=False)},
        "/metrics": {"get": _get("metrics", "Counters for Prometheus.", "text/plain", open=False)},
        "/openapi.json": {"get": _get("openapi", "This document.", "application/json")},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bebert",
            "version": facts["version"],
            "description": f"Text classification by the model {facts['model_id']}.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _votes() -> dict[str, Any]:
    shares = {"type": "object", "additionalProperties": {"type": "number"}}
    said = {"label": STRING, "score": {"type": "number"}, "probabilities": shares}
    member = _object(said | {"weight": {"type": "number"}}, [*said, "weight"])
    answer = said | {
        "labels": {"type": ["array", "null"], "items": STRING},
        "members": {"type": "array", "items": member},
        "windows": {"type": "integer"},
        "cut": {"type": "integer"},
        "milliseconds": {"type": "number"},
    }
    return _object(answer, list(answer))


def _post(summary: str, name: str, operation: str, answer: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{name}Request"}
    if name == "Tei":  # or the other dialect, which is known by its parameters
        marked = {"required": ["parameters"], "properties": {"parameters": {"type": "object"}}}
        schema = {"anyOf": [schema, {"allOf": [{"$ref": "#/components/schemas/HubRequest"}, marked]}]}
    answered = {"schema": {"$ref": f"#/components/schemas/{answer or name + 'Answer'}"}}
    responses = {"200": {"description": "The answer.", "content": {"application/json": answered}}}
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": responses | {status: _refusal(text) for status, text in REFUSALS.items()},
    }


def _get(operation: str, summary: str, kind: str, open: bool = True, may_fail: bool = False) -> dict[str, Any]:
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    responses: dict[str, Any] = {"200": {"description": summary, "content": {kind: {"schema": schema}}}}
    if not open:
        responses["401"] = _refusal(REFUSALS["401"])
    if may_fail:
        responses["503"] = _refusal("The server is ending, or its engine has failed.")
    found = {"operationId": operation, "summary": summary, "responses": responses}
    return found | ({"security": []} if open else {})


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
