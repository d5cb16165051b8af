"""A pack for the tests' host with one node, whose output is not what anybody expects."""

from .objects import odd_objects


class _AnyType(str):
    """The name of a type that a host finds equal to every other one."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


class SoakOdd:
    """Gives the odd object of this name for inputs of this type."""

    CATEGORY = "soak"
    FUNCTION = "give"
    RETURN_TYPES = (_AnyType("*"),)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"type": ("STRING", {}), "what": ("STRING", {})}}

    def give(self, type, what):
        return (odd_objects(type)[what](),)


NODE_CLASS_MAPPINGS = {"SoakOdd": SoakOdd}
