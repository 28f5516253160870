"""`python -m lab.ppo`: see `lab.ppo.command`."""

from lab.experiment import command_line
from lab.ppo import command

if __name__ == "__main__":
    command_line(command.main, command.Arguments, command.__doc__ or "")
