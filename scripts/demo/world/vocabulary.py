# SPDX-License-Identifier: Apache-2.0
"""The words of the demo world: every attribute of a scene, its values, and the phrases a caption may use for each.

The first phrase of a value is its name. `HELD_OUT` combinations of shape, colour and motion are never trained."""

COLOURS = {
    "red": ["red", "scarlet", "crimson"],
    "orange": ["orange", "tangerine"],
    "yellow": ["yellow", "lemon yellow"],
    "green": ["green", "emerald"],
    "blue": ["blue", "azure"],
    "purple": ["purple", "violet"],
    "pink": ["pink", "rose pink"],
    "white": ["white", "snow white"],
}

SHAPES = {
    "ball": ["ball", "sphere"],
    "cube": ["cube", "box"],
    "star": ["star"],
    "heart": ["heart"],
    "ring": ["ring", "donut"],
    "flower": ["flower", "blossom"],
    "moon": ["moon", "crescent"],
    "drop": ["drop", "droplet"],
}

# {verb} forms: third person ("a ball ...") and participle ("a ball, ..." or "a ... ball").
MOTIONS = {
    "hovers": ["hovers", "floats", "hangs in the air", "stays in place"],
    "glides right": ["glides to the right", "moves to the right", "drifts from left to right", "slides right"],
    "glides left": ["glides to the left", "moves to the left", "drifts from right to left", "slides left"],
    "rises": ["rises", "moves up", "floats upward", "goes up"],
    "sinks": ["sinks", "moves down", "floats downward", "goes down"],
    "spins": ["spins", "rotates", "turns around"],
    "bounces": ["bounces", "jumps up and down", "hops"],
    "grows": ["grows", "gets bigger", "becomes larger"],
    "shrinks": ["shrinks", "gets smaller", "becomes smaller"],
    "swings": ["swings", "sways", "swings from side to side"],
}

BACKDROPS = {
    "studio": ["in a studio", "in a bright studio", "in front of a plain wall"],
    "sunset sea": ["at sunset over the sea", "over the sea at sunset", "by the ocean at sunset"],
    "northern lights": ["under the northern lights", "under an aurora", "at night under green northern lights"],
    "meadow": ["over a meadow", "over green hills", "in a sunny meadow"],
    "desert": ["in the desert", "over sand dunes", "above desert dunes"],
    "underwater": ["under water", "underwater", "deep in the ocean"],
    "snowy mountains": ["in front of snowy mountains", "in the snowy mountains", "before mountains in the snow"],
    "city lights": ["in front of city lights", "in a city at night", "before the lights of a city at night"],
}

CAMERAS = {
    "still": ["the camera is still", "static camera", "the camera does not move"],
    "zooms in": ["the camera zooms in", "slow zoom in", "the camera moves closer"],
    "zooms out": ["the camera zooms out", "slow zoom out", "the camera moves away"],
    "pans left": ["the camera pans left", "slow pan to the left", "the camera pans to the left"],
    "pans right": ["the camera pans right", "slow pan to the right", "the camera pans to the right"],
}

LIGHTS = {
    "daylight": ["in soft daylight", "in daylight", "soft light"],
    "golden light": ["in golden light", "in warm evening light", "warm light"],
    "moonlight": ["in moonlight", "in cold moonlight", "cool light"],
    "spotlight": ["in a spotlight", "lit by a spotlight", "spotlight"],
    "neon light": ["in neon light", "lit by neon", "pink and cyan neon light"],
}

FINISHES = {
    "glossy": ["glossy", "shiny", "polished"],
    "matte": ["matte", "soft", "clay"],
    "glowing": ["glowing", "luminous", "bright glowing"],
}

SIZES = {
    "medium": ["medium-sized", "normal"],
    "small": ["small", "little", "tiny"],
    "big": ["big", "large", "huge"],
}

ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "motion": MOTIONS, "backdrop": BACKDROPS, "camera": CAMERAS,
              "light": LIGHTS, "finish": FINISHES, "size": SIZES}

# How often each value is drawn; attributes not named here are uniform. The first value is what a caption that is silent
# about the attribute means (the backdrop, when not named, may be any).
WEIGHTS = {"camera": [4, 1.5, 1.5, 1.5, 1.5], "light": [4, 1.5, 1.5, 1.5, 1.5], "finish": [4, 2, 2], "size": [4, 2, 2]}


def names(attribute):
    """The values of an attribute, in the order of their indices."""
    return list(ATTRIBUTES[attribute])


def held_out(shape, colour, motion):
    """Whether a combination (indices, or tensors of them) is kept out of all training; about one in seven, and every
    pair of two of the three is trained."""
    return (shape + 3 * colour + 2 * motion) % 7 == 0
