"""What a person proposes for a host's network. What is wrong with it, the helper there says."""

from pydantic import BaseModel, ConfigDict, Field

from kvmweb.spec.hostnet import HostNetwork


class Proposal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    document: HostNetwork = Field(
        title="Document", description="All that is wanted of the host's network."
    )


class Application(Proposal):
    digest: str = Field(
        title="Digest",
        description="Of the plan that was looked at; refused where the ground has moved since.",
        max_length=200,
    )
