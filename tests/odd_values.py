"""JSON values with another value somewhere in them, or one less."""

import copy


def places(value, at=()):
    """Every place in a JSON value."""
    yield at
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, one in value.items() if isinstance(value, dict) else listed:
        yield from places(one, (*at, key))


def planted(content, at, value):
    """The content with another value at a place."""
    if not at:
        return value
    here = changed = copy.deepcopy(content)
    for key in at[:-1]:
        here = here[key]
    here[at[-1]] = value
    return changed


def without(content, at):
    """The content without what is at a place."""
    here = changed = copy.deepcopy(content)
    for key in at[:-1]:
        here = here[key]
    del here[at[-1]]
    return changed
